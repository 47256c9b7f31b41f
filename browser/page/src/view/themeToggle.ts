import type { KeptValues } from "../keptValues.ts";
import { find, setText } from "./dom.ts";

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
  const show = (): void => {
    const theme = chosen();
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    const isDark = (theme ?? (system.matches ? "dark" : "light")) === "dark";
    button.setAttribute("aria-pressed", String(isDark));
    setText(button, "Dark");
    onChange();
  };
  button.addEventListener("click", () => {
    const isDark = button.getAttribute("aria-pressed") === "true";
    storage.setItem(KEY, isDark ? "light" : "dark");
    show();
  });
  system.addEventListener("change", show);
  show();
}
