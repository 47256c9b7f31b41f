import uPlot from "uplot";
import { axisLabels, PRICE_STEPS } from "../model/chartAxes.ts";
import { formatClock, formatPrice, formatSignedPercent } from "../model/numberFormat.ts";
import type { PriceColumns } from "../model/priceHistory.ts";
import type { QuoteLine } from "../model/quoteBoard.ts";
import { find, make, setSign, setText } from "./dom.ts";

const COLOURS = ["last", "band", "axis", "grid", "move"] as const;
type Colours = Record<(typeof COLOURS)[number], string>;

/** The chart of one symbol: last price, the band between bid and ask, and a mark for each reconnect. */
export class ChartView {
  readonly #plot = find("plot", HTMLElement);
  readonly #title = find("chart-title", HTMLElement);
  readonly #last = find("chart-last", HTMLElement);
  readonly #change = find("chart-change", HTMLElement);
  readonly #readout = find("chart-readout", HTMLElement);
  readonly #probes = COLOURS.map((name) => make("i", { class: `series-${name}`, "aria-hidden": "true" }));
  readonly #resized: ResizeObserver;
  readonly #chart: uPlot;
  #colours: Colours;
  #window_s = 60;
  #marks_s: readonly number[] = [];

  /** `onChange`: the chart has to be drawn anew, since its window was chosen. */
  constructor(onChange: () => void) {
    this.#plot.append(...this.#probes);
    this.#colours = this.#readColours();
    this.#chart = new uPlot(this.#options(), [[], [], [], []], this.#plot);
    this.#resized = new ResizeObserver(() => this.#chart.setSize(this.#size()));
    this.#resized.observe(this.#plot);
    this.#listenToWindow(onChange);
  }

  /** Colours come from the style sheet, and change with the theme. */
  recolour(): void {
    this.#colours = this.#readColours();
    this.#chart.redraw(false, true);
  }

  /** Instants of reconnects, on the market's clock. */
  mark(marks_s: readonly number[]): void {
    this.#marks_s = marks_s;
  }

  draw(symbol: string | null, columns: PriceColumns, line: QuoteLine | undefined): void {
    setText(this.#title, symbol ?? "Price");
    setText(this.#last, line ? formatPrice(line.last) : "");
    setText(this.#change, line ? formatSignedPercent(line.changeShare) : "");
    setSign(this.#change, line ? line.changeShare * 100 : null);
    const minutes = this.#window_s === 60 ? "minute" : `${this.#window_s / 60} minutes`;
    const label = symbol ? `Price chart of ${symbol}, the last ${minutes}` : "Price chart";
    if (this.#plot.getAttribute("aria-label") !== label) this.#plot.setAttribute("aria-label", label);
    const newest_s = columns.times_s.at(-1) ?? 0;
    const first = firstAtOrAfter(columns.times_s, newest_s - this.#window_s);
    this.#chart.batch(() => {
      this.#chart.setData(
        [columns.times_s.slice(first), columns.bid.slice(first), columns.ask.slice(first), columns.last.slice(first)],
        false,
      );
      this.#chart.setScale("x", { min: newest_s - this.#window_s, max: newest_s });
    });
  }

  #listenToWindow(onChange: () => void): void {
    const buttons = [...find("chart-window", HTMLElement).querySelectorAll("button")];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        this.#window_s = Number(button.dataset.seconds);
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        onChange();
      });
    }
  }

  #options(): uPlot.Options {
    const axis = {
      stroke: () => this.#colours.axis,
      grid: { stroke: () => this.#colours.grid, width: 1 },
      ticks: { show: false },
      font: `12px ${getComputedStyle(this.#plot).fontFamily}`,
    };
    return {
      ...this.#size(),
      padding: [8, 4, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: true }, y: { range: priceRange } },
      axes: [
        {
          ...axis,
          size: 28,
          space: 80,
          values: (chart, splits) => axisLabels(splits, isEmpty(chart), (at_s) => timeLabel(chart, at_s)),
        },
        {
          ...axis,
          side: 1,
          size: 66,
          space: 36,
          incrs: [...PRICE_STEPS],
          values: (chart, splits) => axisLabels(splits, isEmpty(chart), formatPrice),
        },
      ],
      series: [
        {},
        { label: "Bid", points: { show: false } },
        { label: "Ask", points: { show: false } },
        { label: "Last", stroke: () => this.#colours.last, width: 1.5, points: { show: false } },
      ],
      bands: [{ series: [2, 1], fill: () => this.#colours.band }],
      hooks: {
        drawAxes: [(chart) => this.#drawMarks(chart)],
        setCursor: [(chart) => this.#readAt(chart)],
      },
    };
  }

  #drawMarks(chart: uPlot): void {
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.strokeStyle = this.#colours.move;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    for (const mark_s of this.#marks_s) {
      const x = Math.round(chart.valToPos(mark_s, "x", true)) + 0.5;
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
    }
    ctx.stroke();
    ctx.restore();
  }

  #readAt(chart: uPlot): void {
    const index = chart.cursor.idx;
    const at_s = index == null ? undefined : chart.data[0][index];
    const last = index == null ? undefined : chart.data[3]?.[index];
    const known = at_s !== undefined && last !== undefined && last !== null;
    setText(this.#readout, known ? `${formatClock(at_s * 1000)}  ${formatPrice(last)}` : "");
  }

  #size(): { width: number; height: number } {
    return { width: Math.max(this.#plot.clientWidth, 100), height: Math.max(this.#plot.clientHeight, 100) };
  }

  #readColours(): Colours {
    const entries = COLOURS.map((name, index) => {
      const probe = this.#probes[index];
      return [name, probe ? getComputedStyle(probe).color : "gray"];
    });
    return Object.fromEntries(entries) as Colours;
  }
}

/** A tenth of air above and below, and at least a few ticks, so that a still market is no mountain range. */
function priceRange(_chart: uPlot, least: number | null, most: number | null): [number, number] {
  if (least === null || most === null) return [0, 1];
  const air = Math.max((most - least) * 0.1, 0.03);
  return [least - air, most + air];
}

function isEmpty(chart: uPlot): boolean {
  return chart.data[0].length === 0;
}

/** A label that would stick out at the left is left out. */
function timeLabel(chart: uPlot, at_s: number): string {
  return chart.valToPos(at_s, "x") < 26 ? "" : formatClock(at_s * 1000);
}

function firstAtOrAfter(times_s: readonly number[], from_s: number): number {
  let low = 0;
  let high = times_s.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times_s[middle] ?? from_s) < from_s) low = middle + 1;
    else high = middle;
  }
  return low;
}
