/** Distances between two lines of the price axis: whole cents, since its labels have two decimals. */
export const PRICE_STEPS: readonly number[] = [0.01, 0.1, 1, 10, 100, 1_000, 10_000, 100_000].flatMap((unit) => [
  unit,
  2 * unit,
  5 * unit,
]);

/** The figures of an axis. Beside a chart without prices there are none: they would be made up. */
export function axisLabels(values: readonly number[], empty: boolean, write: (value: number) => string): string[] {
  return values.map((value) => (empty ? "" : write(value)));
}
