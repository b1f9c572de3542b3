// One dashboard: its drop-downs and its grid of panels.

import * as api from './api.js';
import { element, note } from './elements.js';
import { draw } from './panels.js';

/** Fills `place`; `ready` is called when it has its full height, before the numbers come. */
export async function showDashboard(place, dashboard, options, range, change, ready) {
  const filters = dashboard.controls
    .filter(({ field }) => options.get(field))
    .map(({ field }) => ({ field, values: [options.get(field)] }));
  const controls = dashboard.controls.map(({ field, label }) => control(dashboard, field, label, options.get(field) ?? '', range, change));
  const panels = dashboard.panels.map((panel) => ({ panel, body: element('div', { class: 'body' }, note('…')) }));
  place.append(
    element('p', { class: 'quiet' }, dashboard.description),
    element('form', { class: 'controls' }, ...controls),
    element('div', { class: 'grid' }, ...panels.map(({ panel, body }) => frame(panel, body, filters))));
  // Charts are as wide as their place, which has a width only in the document.
  ready();
  await Promise.all(panels.map(({ panel, body }) => fill(dashboard, panel, body, range, filters)));
}

function frame(panel, body, filters) {
  const { x, y, width, height } = panel.place;
  const plain = panel.shows === 'text' || panel.shows === 'links';
  const made = element('section', { class: plain ? 'panel plain' : 'panel', id: `panel-${panel.id}` },
    plain ? null : element('h2', {}, title(panel, filters)), body);
  made.style.gridColumn = `${x + 1} / span ${width}`;
  made.style.gridRow = `${y + 1} / span ${height}`;
  made.style.setProperty('--rows', height);
  return made;
}

/** The panel's title, and what it shows nevertheless where its rows don't have what was chosen. */
function title(panel, filters) {
  const without = filters.map(({ field }) => panel.without[field]).filter(Boolean);
  if (without.length === 0) return panel.title;
  return `${panel.title} (${without.length === 1 ? without[0] : 'whole node'})`;
}

async function fill(dashboard, panel, body, range, filters) {
  try {
    const asks = panel.shows === 'chart' || panel.shows === 'rows';
    const answer = asks ? await api.panel({ dashboard: dashboard.name, panel: panel.id, ...range, filters }) : null;
    body.replaceChildren();
    draw(body, panel, answer);
  } catch (error) {
    body.replaceChildren(note(error.message, 'error'));
  }
}

/** Its values are asked for when it is opened first. */
function control(dashboard, field, label, chosen, range, change) {
  const option = (value) => element('option', { value, selected: value === chosen }, value || 'all');
  const select = element('select', { 'aria-label': label, onchange: () => change({ [field]: select.value }) },
    option(''), ...(chosen ? [option(chosen)] : []));
  const open = async () => {
    try {
      const known = await api.values({ dashboard: dashboard.name, field, ...range });
      select.replaceChildren(option(''), ...[...new Set([chosen, ...known])].filter(Boolean).map(option));
    } catch (error) {
      select.replaceChildren(option(''), element('option', { disabled: true }, error.message));
    }
  };
  select.addEventListener('focus', open, { once: true });
  return element('label', {}, `${label} `, select);
}
