// What a panel shows, by its kind.

import { heatMap, lines } from './charts.js';
import { element, note, table } from './elements.js';
import { number, text, time } from './format.js';
import { markdown } from './markdown.js';

const TIME = '@timestamp';

/** Draws `answer` (see kumon_dashboards::Answer) into `body`, which is in the document. */
export function draw(body, panel, answer) {
  if (panel.shows === 'text') {
    body.append(markdown(panel.text));
  } else if (panel.shows === 'links') {
    const links = panel.links.map(({ dashboard, label }) => element('a', { href: `#/${encodeURIComponent(dashboard)}` }, label));
    body.append(element('div', { class: 'links' }, ...links));
  } else if (answer.kind === 'number') {
    const shown = number(answer.value, answer.unit);
    body.append(element('div', { class: answer.red ? 'number red' : 'number' }, element('b', {}, shown), element('span', {}, answer.label)));
  } else if (isEmpty(answer)) {
    body.append(note('No rows in this time.'));
  } else if (answer.kind === 'series') {
    (panel.chart === 'heat_map' ? heatMap : lines)(body, answer, panel.chart);
  } else if (panel.chart === 'pie' || panel.chart === 'bar') {
    shares(body, answer, panel.chart === 'pie');
  } else {
    plainTable(body, panel, answer);
  }
}

function isEmpty(answer) {
  return answer.kind === 'series'
    ? answer.lines.every((line) => line.numbers.every((number) => number === null))
    : answer.rows.length === 0;
}

function cell(value, column) {
  if (column.title === TIME) return time(Date.parse(value));
  return typeof value === 'number' && column.unit ? number(value, column.unit) : text(value);
}

function plainTable(body, panel, { columns, rows, total }) {
  const heads = columns.map(({ title, label }, at) => {
    if (title === TIME) return { label: 'Time', kind: 'time' };
    return { label, kind: rows.some((row) => typeof row[at] === 'number') ? 'number' : 'text' };
  });
  const made = table(heads, rows.map((row) => row.map((value, at) => cell(value, columns[at]))));
  if (panel.shows === 'rows') {
    const all = `#/rows?${new URLSearchParams({ metric: panel.metric, query: panel.query })}`;
    made.append(element('p', { class: 'quiet' }, `${rows.length} newest of ${total}; `, element('a', { href: all }, 'search in all')));
  }
  body.append(made);
}

/** Each key with a bar as long as its first number; of a pie also its share of the whole. */
function shares(body, { columns, rows }, ofWhole) {
  const at = columns.findIndex((column) => column.unit);
  const numbers = rows.map((row) => row[at] ?? 0);
  const whole = numbers.reduce((sum, number) => sum + number, 0);
  const most = Math.max(...numbers);
  const heads = [
    ...columns.map((column, place) => ({ label: column.label, kind: place >= at ? 'number' : 'text' })),
    { label: ofWhole ? 'share' : '', kind: 'text' },
  ];
  body.append(table(heads, rows.map((row, line) => [
    ...row.map((value, place) => cell(value, columns[place])),
    element('span', {},
      element('progress', { max: (ofWhole ? whole : most) || 1, value: numbers[line] }),
      ofWhole && whole > 0 ? ` ${number(numbers[line] / whole, 'fraction')}` : ''),
  ])));
}
