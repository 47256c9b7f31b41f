import type { LocalControl, LocalPod } from "./localControl.ts";

/** Between two tries to follow the pods. */
const PAUSE_MS = 2000;

/** Follows the pods of the local run for as long as the page is open. */
export async function watchPods(
  control: LocalControl,
  onPods: (pods: readonly LocalPod[]) => void,
  onLost: () => void,
): Promise<never> {
  for (;;) {
    try {
      await control.watchPods(onPods);
    } catch {
      // Whatever broke it off, the next try tells whether it is still so.
    }
    onLost();
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
