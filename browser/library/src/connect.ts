/** The two ways in. */

import type { Connection } from "./connection.ts";
import type { ConnectOptions, GetToken } from "./options.ts";
import type { Platform } from "./platform.ts";
import type { RestClient } from "./rest.ts";

export interface RestOptions {
  readonly url: string | readonly string[];
  readonly getToken: GetToken;
  readonly restTimeoutMs?: number;
  readonly platform?: Partial<Platform>;
}

/** Connects at once, and stays connected. Throws TypeError for options that cannot be right. */
export declare function connect(options: ConnectOptions): Connection;

/** The REST calls alone, for a page that has no connection yet. */
export declare function createRestClient(options: RestOptions): RestClient;
