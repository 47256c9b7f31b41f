/** A row of a table that can be brought up to date in place. */
export interface Row<Line> {
  readonly element: HTMLTableRowElement;
  update(line: Line): void;
}

/**
 * The body of a table, one row for each key. Rows that stay are not touched, so that focus and selection stay too.
 *
 * Focus in a row that goes moves to the row that takes its place, else to `whenEmpty`.
 */
export class KeyedRows<Line> {
  readonly #rows = new Map<string, Row<Line>>();
  readonly #body: HTMLTableSectionElement;
  readonly #keyOf: (line: Line) => string;
  readonly #make: (line: Line) => Row<Line>;
  readonly #whenEmpty: HTMLElement;

  constructor(
    table: HTMLTableElement,
    keyOf: (line: Line) => string,
    make: (line: Line) => Row<Line>,
    whenEmpty: HTMLElement,
  ) {
    this.#body = table.tBodies[0] ?? table.createTBody();
    this.#keyOf = keyOf;
    this.#make = make;
    this.#whenEmpty = whenEmpty;
  }

  row(key: string): Row<Line> | undefined {
    return this.#rows.get(key);
  }

  /** Shows these lines, in this order, and no others. */
  show(lines: readonly Line[]): void {
    const lost = this.#removeAllBut(new Set(lines.map(this.#keyOf)));
    lines.forEach((line, index) => {
      const key = this.#keyOf(line);
      let row = this.#rows.get(key);
      if (!row) {
        row = this.#make(line);
        this.#rows.set(key, row);
      }
      row.update(line);
      const there = this.#body.rows[index];
      if (there !== row.element) this.#body.insertBefore(row.element, there ?? null);
    });
    if (lost !== null) this.#focusNear(lost);
  }

  /** The index of the row that had the focus and went, if one did. */
  #removeAllBut(keys: ReadonlySet<string>): number | null {
    let lost: number | null = null;
    for (const [key, row] of this.#rows) {
      if (keys.has(key)) continue;
      if (row.element.contains(document.activeElement)) lost = row.element.sectionRowIndex;
      row.element.remove();
      this.#rows.delete(key);
    }
    return lost;
  }

  #focusNear(index: number): void {
    const row = this.#body.rows[Math.min(index, this.#body.rows.length - 1)];
    (row?.querySelector("button") ?? this.#whenEmpty).focus();
  }
}
