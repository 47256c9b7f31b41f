import type { KeptValues } from "../keptValues.ts";
import { find, setData, setText } from "./dom.ts";

const KEY = "session-service.theme";

type Theme = "light" | "dark";

/** Light or dark: as the system says, until its user says otherwise. `onChange` comes with either. */
export function installThemeToggle(storage: KeptValues, onChange: () => void): void {
  const button = find("theme", HTMLButtonElement);
  const system = matchMedia("(prefers-color-scheme: dark)");

  const chosen = (): Theme | null => {
    const kept = storage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : null;
  };
  const isDark = (): boolean => (chosen() ?? (system.matches ? "dark" : "light")) === "dark";
  const show = (): void => {
    setData(document.documentElement, "theme", chosen());
    setText(button, isDark() ? "Light theme" : "Dark theme");
    onChange();
  };
  button.addEventListener("click", () => {
    storage.setItem(KEY, isDark() ? "light" : "dark");
    show();
  });
  system.addEventListener("change", show);
  show();
}
