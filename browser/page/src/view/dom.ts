/** The few steps that every view makes with the document. */

/** The element with this id, of this type. The document has it, or the page was built wrong: throws TypeError. */
export function find<E extends HTMLElement>(id: string, type: new () => E): E {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new TypeError(`The page has no ${type.name} called ${id}`);
  return element;
}

/** A new element; children that are text become text, never markup. */
export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Readonly<Record<string, string>> = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Writes only what is new: an untouched text costs neither layout nor paint. */
export function setText(element: HTMLElement, text: string): void {
  const child = element.firstChild;
  if (child instanceof Text && child.nextSibling === null) {
    if (child.data !== text) child.data = text;
  } else if (child !== null || text !== "") {
    element.textContent = text;
  }
}

/** Sets `data-name`, or removes it for null; only where it differs. */
export function setData(element: HTMLElement, name: string, value: string | null): void {
  if (value === null) delete element.dataset[name];
  else if (element.dataset[name] !== value) element.dataset[name] = value;
}

/** Colours a figure by its sign, as CSS has it; amounts that are written as zero have none. */
export function setSign(element: HTMLElement, value: number | null): void {
  setData(element, "sign", value === null || Math.abs(value) < 0.005 ? null : value > 0 ? "up" : "down");
}
