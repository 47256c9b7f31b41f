/** Addresses of the service, from what its users write. Pure. */

const HTTP_SCHEMES: Readonly<Record<string, string>> = { "ws:": "http:", "wss:": "https:" };
const SOCKET_SCHEMES: Readonly<Record<string, string>> = { "http:": "ws:", "https:": "wss:" };
const SOCKET_PATH = /\/ws\/?$/;

/**
 * The base address of REST: `http(s)`, without a path's last slash, `/ws`, query or fragment. `page`: what a relative
 * address is relative to. Throws TypeError for what is none.
 */
export function baseAddress(text: string, page?: string): string {
  let url: URL;
  try {
    url = new URL(text, page);
  } catch {
    throw new TypeError(`url: ${JSON.stringify(text)} is no address`);
  }
  const scheme = HTTP_SCHEMES[url.protocol] ?? url.protocol;
  if (scheme !== "http:" && scheme !== "https:") throw new TypeError(`url: ${url.protocol} is not http(s) or ws(s)`);
  return `${scheme}//${url.host}${url.pathname.replace(SOCKET_PATH, "").replace(/\/+$/, "")}`;
}

/** Of a base address. */
export function socketAddress(base: string, query: URLSearchParams): string {
  const scheme = base.slice(0, base.indexOf(":") + 1);
  return `${SOCKET_SCHEMES[scheme] ?? scheme}${base.slice(scheme.length)}/ws?${query}`;
}
