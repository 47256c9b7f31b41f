/** Where the local run's control is, and the key that proves that this page may use it. */
export interface LocalConfig {
  readonly controlUrl: string;
  readonly controlKey: string;
}

/** What the pod that served the page says of its surroundings. `pods` empty: the page's own origin only. */
export interface PageConfig {
  readonly local: LocalConfig | null;
  readonly pods: readonly string[];
  readonly version: string;
}

/** Rejects with Error where the pod does not answer, or not with what this page can read. */
export async function loadPageConfig(): Promise<PageConfig> {
  const answer = await fetch("/page.json", { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`GET /page.json: ${answer.status}`);
  const config = (await answer.json()) as PageConfig;
  if (!Array.isArray(config.pods)) throw new Error("GET /page.json: no pods");
  return config;
}
