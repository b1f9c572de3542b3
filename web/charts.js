// Charts over time: lines, areas and bars by uPlot, heat maps on a canvas.

/* global uPlot */

import { element } from './elements.js';
import { number } from './format.js';

const COLOURS = ['#2f7ed8', '#e07b39', '#3fa45b', '#b8549b', '#8d6cd1', '#c9a227', '#3aa6a6', '#d4566a', '#7a8793', '#6f9a2f', '#a56a43', '#4f6bd0'];
/** Room for the numbers beside a chart, pixels. */
const AXIS = 72;

/** `chart` is line, area or bar. Areas and bars stand upon each other: they show parts of a whole. */
export function lines(body, answer, chart) {
  const drawn = chart === 'line' ? answer.lines.map(alone) : stack(answer.lines);
  const legend = element('div', { class: 'legend' }, ...answer.lines.map((line, at) => key(line.label, at)));
  const place = element('div', {});
  body.append(place, legend);

  const grid = { stroke: themed(body, '--line'), width: 1 };
  const axis = { stroke: themed(body, '--quiet'), grid, ticks: grid };
  const options = {
    width: body.clientWidth,
    height: Math.max(80, body.clientHeight - legend.offsetHeight - 4),
    scales: { y: { range: (_plot, _low, high) => [0, (high || 1) * 1.05] } },
    cursor: { y: false },
    axes: [axis, { ...axis, size: AXIS, values: (_plot, ticks) => ticks.map((tick) => number(tick, answer.unit)) }],
    series: [{}, ...drawn.map(({ label, at }) => drawing(label, at, chart))],
    hooks: { setCursor: [(plot) => tell(plot, answer, legend)] },
  };
  const plot = new uPlot(options, [answer.times.map((time) => time / 1000), ...drawn.map((line) => line.numbers)], place);
  new ResizeObserver(() => {
    if (body.clientWidth !== plot.width && body.clientWidth > 0) plot.setSize({ width: body.clientWidth, height: plot.height });
  }).observe(body);
}

const alone = ({ label, numbers }, at) => ({ label, numbers, at });

/** Each line's numbers on top of those before it; the topmost comes first, so that the others are drawn over it. */
function stack(all) {
  let below = all[0].numbers.map(() => 0);
  const stacked = all.map(({ label, numbers }, at) => {
    below = numbers.map((value, step) => below[step] + (value ?? 0));
    return { label, numbers: below, at };
  });
  return stacked.reverse();
}

/** A colour of the style sheet as the browser's theme has it: a canvas knows no variables. */
function themed(body, variable) {
  const probe = element('i', {});
  probe.style.color = `var(${variable})`;
  body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function colour(at) {
  return COLOURS[at % COLOURS.length];
}

function key(label, at) {
  const mark = element('i', {});
  mark.style.background = colour(at);
  return element('span', {}, mark, label, element('em', {}));
}

function drawing(label, at, chart) {
  const stroke = colour(at);
  const shapes = {
    line: { spanGaps: false, points: { size: 4 } },
    area: { fill: stroke, points: { show: false } },
    bar: { fill: stroke, paths: uPlot.paths.bars({ size: [0.8, 40] }), points: { show: false } },
  };
  return { label, stroke, width: 1.5, ...shapes[chart] };
}

/** The numbers under the pointer, beside their names. */
function tell(plot, answer, legend) {
  const step = plot.cursor.idx;
  answer.lines.forEach((line, at) => {
    const told = legend.children[at]?.querySelector('em');
    if (told) told.textContent = step === null || step === undefined ? '' : ` ${number(line.numbers[step], answer.unit)}`;
  });
}

/** Steps from left to right, lines from top to bottom; the darker a cell, the larger its number (by its logarithm). */
export function heatMap(body, answer) {
  const canvas = element('canvas', { class: 'heat', role: 'img', 'aria-label': `${answer.lines.length} lines over time` });
  body.append(canvas);
  new ResizeObserver(() => paint(canvas, answer)).observe(body);
  canvas.addEventListener('mousemove', (event) => {
    canvas.title = under(canvas, answer, event);
  });
}

/** Height of the line of times below the cells, and of a name beside them; pixels. */
const TIMES = 16;
const NAME = 11;

/** Where cells stand: the room for the names, and a cell's width and height. */
function geometry(canvas, answer) {
  const context = canvas.getContext('2d');
  context.font = `${NAME}px system-ui, sans-serif`;
  const names = answer.lines.map((line) => context.measureText(line.label).width);
  const left = Math.min(canvas.clientWidth / 3, Math.max(...names) + 8);
  return {
    left,
    across: (canvas.clientWidth - left) / answer.times.length,
    down: (canvas.clientHeight - TIMES) / answer.lines.length,
  };
}

function paint(canvas, answer) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const context = canvas.getContext('2d');
  context.scale(scale, scale);
  const { left, across, down } = geometry(canvas, answer);
  const [cell, quiet] = [themed(canvas.parentElement, '--accent'), themed(canvas.parentElement, '--quiet')];
  const most = Math.log1p(Math.max(...answer.lines.flatMap((line) => line.numbers.map((value) => value ?? 0))));
  const named = Math.ceil((NAME + 1) / down);
  answer.lines.forEach((line, row) => {
    context.fillStyle = cell;
    line.numbers.forEach((value, step) => {
      if (!value) return;
      context.globalAlpha = 0.12 + 0.88 * Math.log1p(value) / most;
      context.fillRect(left + step * across, row * down, Math.max(1, across - 1), Math.max(1, down - 1));
    });
    context.globalAlpha = 1;
    context.fillStyle = quiet;
    // Names that would stand upon each other are left out.
    if (row % named === 0) context.fillText(line.label, 0, (row + 0.5) * down + 4, left - 6);
  });
  const clock = (step) => new Date(answer.times[step]).toLocaleTimeString();
  context.fillText(clock(0), left, height - 3);
  context.textAlign = 'right';
  context.fillText(clock(answer.times.length - 1), width, height - 3);
}

/** What the pointer is over, in words. */
function under(canvas, answer, { offsetX, offsetY }) {
  const { left, across, down } = geometry(canvas, answer);
  const step = Math.floor((offsetX - left) / across);
  const line = answer.lines[Math.floor(offsetY / down)];
  if (!line || step < 0 || step >= answer.times.length) return '';
  return `${line.label}, ${new Date(answer.times[step]).toLocaleString()}: ${number(line.numbers[step], answer.unit)}`;
}
