// Which view is shown, of which time, and when it is shown again. The address holds all of it, so that it can be
// kept as a bookmark: #/cpu?range=1h&host.name=db1, #/rows?metric=exec&query=…

import * as api from './api.js';
import { showDashboard } from './dashboard.js';
import { element, note } from './elements.js';
import { showRows } from './rows.js';

const ROWS = 'rows';
const UNITS = { m: 60, h: 3600, d: 86400 };

const main = document.getElementById('main');
const nav = document.getElementById('dashboards');
const range = document.getElementById('range');
const refresh = document.getElementById('refresh');

let dashboards = [];
let timer;
// A view that is left while its answers are on their way must not draw over the next one.
let current = 0;

/** The address taken apart. */
function view() {
  const [name, query] = location.hash.replace(/^#\/?/, '').split('?');
  return { name: decodeURIComponent(name) || dashboards[0]?.name || ROWS, options: new URLSearchParams(query) };
}

/** Puts changed options into the address, which shows the view again. */
function change(changes) {
  const { name, options } = view();
  for (const [key, value] of Object.entries(changes)) {
    if (value) options.set(key, value);
    else options.delete(key);
  }
  const next = `#/${encodeURIComponent(name)}?${options}`;
  if (next === location.hash) show();
  else location.hash = next;
}

/** The asked time in milliseconds since the Unix epoch. */
function timeRange() {
  const [, count, unit] = /^(\d+)([mhd])$/.exec(range.value);
  const until = Date.now();
  return { since: until - count * UNITS[unit] * 1000, until };
}

/** Links keep the time range. */
function navigation(chosen) {
  const link = (name, title) => element('a', {
    href: `#/${encodeURIComponent(name)}?${new URLSearchParams({ range: range.value })}`,
    'aria-current': name === chosen && 'page',
  }, title);
  nav.replaceChildren(...dashboards.map(({ name, title }) => link(name, title)), link(ROWS, 'Search rows'));
}

async function show() {
  clearTimeout(timer);
  const shown = ++current;
  const { name, options } = view();
  range.value = options.get('range') ?? '1h';
  if (range.selectedIndex < 0) range.value = '1h';
  navigation(name);
  const place = element('div', { 'aria-busy': 'true' });
  const first = main.dataset.view !== name;
  main.dataset.view = name;
  if (first) main.replaceChildren(place);
  const ready = () => shown === current && !place.isConnected && main.replaceChildren(place);
  const dashboard = dashboards.find((each) => each.name === name);
  try {
    if (name === ROWS) await showRows(place, options, timeRange(), change);
    else if (dashboard) await showDashboard(place, dashboard, options, timeRange(), change, ready);
    else place.append(note(`There is no dashboard '${name}'.`, 'error'));
  } catch (error) {
    place.replaceChildren(note(error.message, 'error'));
  }
  ready();
  place.removeAttribute('aria-busy');
  if (shown === current && Number(refresh.value) > 0) {
    timer = setTimeout(show, Number(refresh.value) * 1000);
  }
}

document.getElementById('time').addEventListener('submit', (event) => {
  event.preventDefault();
  show();
});
range.addEventListener('change', () => change({ range: range.value }));
refresh.addEventListener('change', show);
window.addEventListener('hashchange', show);

try {
  ({ dashboards } = await api.dashboards());
  await show();
} catch (error) {
  main.replaceChildren(note(error.message, 'error'));
}
