import type { KeptValues } from "./keptValues.ts";
import type { SignIn } from "./view/signInView.ts";

const KEY = "session-service.sign-in";

/** How this tab signed in, or that it signed out; null where neither has happened yet. */
export type KeptSignIn = SignIn | { readonly kind: "out" } | null;

/** For this tab only, and for as long as it is open: `storage` is its sessionStorage. */
export function keptSignIn(storage: KeptValues): KeptSignIn {
  try {
    return JSON.parse(storage.getItem(KEY) ?? "null") as KeptSignIn;
  } catch {
    return null;
  }
}

export function keepSignIn(storage: KeptValues, signIn: NonNullable<KeptSignIn>): void {
  storage.setItem(KEY, JSON.stringify(signIn));
}
