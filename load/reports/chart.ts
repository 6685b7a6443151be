/** A chart of numbers. */
export interface Chart {
  /** End of the file name: `results/<scenario>-<name>.svg`. */
  readonly name: string;
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  /** `bars` needs whole numbers from 0 as x, the places of {@link Axis.categories}. */
  readonly kind: 'lines' | 'bars';
  readonly series: readonly Series[];
}

export interface Axis {
  /** With the unit. */
  readonly label: string;
  readonly isLogarithmic?: boolean;
  /** Names instead of numbers. */
  readonly categories?: readonly string[];
}

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

const WIDTH = 760;
const HEIGHT = 420;
const PLOT = { left: 70, right: 740, top: 66, bottom: 360 };
/** The palette of Okabe and Ito, which is distinguishable with any colour vision. */
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9'];
const STEPS = [1, 2, 5, 10];
const INTERVALS = 5;

interface Scale {
  readonly ticks: readonly number[];
  place(value: number): number;
}

/** The chart as an SVG document. */
export function drawChart(chart: Chart): string {
  const points = chart.series.flatMap((series) => series.points);
  const x = chart.x.categories
    ? categoryScale(chart.x.categories.length)
    : createScale(chart.x, points.map(first), PLOT.left, PLOT.right);
  const y = createScale(
    chart.y,
    [...points.map(second), chart.y.isLogarithmic ? NaN : 0],
    PLOT.bottom,
    PLOT.top,
  );
  const marks = chart.kind === 'bars' ? drawBars(chart.series, x, y) : drawLines(chart.series, x, y);
  const upright = `transform="translate(18 ${(PLOT.top + PLOT.bottom) / 2}) rotate(-90)"`;
  const look = 'font-family="sans-serif" font-size="12" fill="#222"';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" ${look}>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
${text(WIDTH / 2, 22, chart.title, 'text-anchor="middle" font-size="15"')}
${drawLegend(chart.series)}
${x.ticks.map((tick) => drawVerticalTick(chart.x, x, tick)).join('\n')}
${y.ticks.map((tick) => drawHorizontalTick(y, tick)).join('\n')}
<path d="M${PLOT.left} ${PLOT.top}V${PLOT.bottom}H${PLOT.right}" fill="none" stroke="#222"/>
${text((PLOT.left + PLOT.right) / 2, HEIGHT - 16, chart.x.label, 'text-anchor="middle"')}
${text(0, 0, chart.y.label, `text-anchor="middle" ${upright}`)}
${marks}
</svg>
`;
}

function drawLines(series: readonly Series[], x: Scale, y: Scale): string {
  return series
    .map(({ points }, place) => {
      const at = points.map((point) => `${round(x.place(point[0]))} ${round(y.place(point[1]))}`);
      const dots = points.length > 30 ? [] : at.map((spot) => drawDot(spot, colourOf(place)));
      const stroke = `fill="none" stroke="${colourOf(place)}" stroke-width="1.6"`;
      return `<polyline points="${at.join(' ')}" ${stroke}/>${dots.join('')}`;
    })
    .join('\n');
}

function drawDot(spot: string, colour: string): string {
  const [x, y] = spot.split(' ');
  return `<circle cx="${x}" cy="${y}" r="3.5" fill="${colour}"/>`;
}

function drawBars(series: readonly Series[], x: Scale, y: Scale): string {
  const room = x.place(1) - x.place(0);
  const width = (room * 0.8) / series.length;
  return series
    .flatMap(({ points }, place) =>
      points.map(([at, value]) => {
        const left = x.place(at) - room * 0.4 + place * width;
        const top = y.place(value);
        const size = `width="${round(width)}" height="${round(PLOT.bottom - top)}"`;
        return `<rect x="${round(left)}" y="${round(top)}" ${size} fill="${colourOf(place)}"/>`;
      }),
    )
    .join('\n');
}

function drawLegend(series: readonly Series[]): string {
  const step = (PLOT.right - PLOT.left) / Math.max(1, series.length);
  return series
    .map(({ name }, place) => {
      const left = PLOT.left + place * step;
      const size = 'y="36" width="12" height="12"';
      return `<rect x="${round(left)}" ${size} fill="${colourOf(place)}"/>${text(left + 17, 46, name)}`;
    })
    .join('\n');
}

function drawVerticalTick({ categories }: Axis, x: Scale, tick: number): string {
  const label = categories?.[tick] ?? formatTick(tick);
  return text(x.place(tick), PLOT.bottom + 17, label, 'text-anchor="middle"');
}

function drawHorizontalTick(y: Scale, tick: number): string {
  const at = round(y.place(tick));
  const label = text(PLOT.left - 6, at + 4, formatTick(tick), 'text-anchor="end"');
  return `<path d="M${PLOT.left} ${at}H${PLOT.right}" stroke="#ddd"/>${label}`;
}

function categoryScale(count: number): Scale {
  const room = (PLOT.right - PLOT.left) / count;
  return {
    ticks: Array.from({ length: count }, (_, place) => place),
    place: (value) => PLOT.left + (value + 0.5) * room,
  };
}

function createScale({ isLogarithmic = false }: Axis, values: number[], from: number, to: number): Scale {
  const known = values.filter((value) => Number.isFinite(value) && (!isLogarithmic || value > 0));
  const lowest = Math.min(...known);
  const highest = Math.max(...known);
  if (isLogarithmic) {
    const [low, high] = [Math.log10(lowest) - 0.05, Math.log10(highest) + 0.05];
    const ticks: number[] = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const step of [1, 2, 5]) ticks.push(step * 10 ** power);
    }
    return {
      ticks: ticks.filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high),
      place: (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from),
    };
  }
  const step = niceStep((highest - lowest) / INTERVALS);
  const [low, high] = [Math.floor(lowest / step) * step, Math.ceil(highest / step) * step];
  const count = Math.round((high - low) / step);
  return {
    ticks: Array.from({ length: count + 1 }, (_, place) => low + place * step),
    place: (value) => from + ((value - low) / (high - low || 1)) * (to - from),
  };
}

/** 1, 2 or 5 times a power of ten, at least `least`. */
function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least > 0 ? least : 1));
  return (STEPS.find((step) => step * power >= least) ?? 1) * power;
}

function formatTick(value: number): string {
  return String(Number(value.toPrecision(6)));
}

function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escaped}</text>`;
}

function colourOf(place: number): string {
  return COLOURS[place % COLOURS.length] ?? '#000';
}

function round(value: number): number {
  return Number(value.toFixed(1));
}

function first([x]: readonly [number, number]): number {
  return x;
}

function second([, y]: readonly [number, number]): number {
  return y;
}
