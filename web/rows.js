// The rows of any metric, by a query: the audit log.

import * as api from './api.js';
import { element, note, table } from './elements.js';
import { text, time } from './format.js';

const LIMIT = 200;

/** What shippers put around other people's rows. */
const AROUND = /^(host|log|agent|data_stream)\.|^event\.(kind|module|dataset)$/;

/** Shows the view; `view` is what the address says, `change` puts a new metric and query into it. */
export async function showRows(main, view, range, change) {
  const { metrics, leftOut } = await api.metrics();
  const metric = metrics.includes(view.get('metric')) ? view.get('metric') : 'exec';
  const query = view.get('query') ?? '';
  const options = metrics.map((name) => element('option', { value: name, selected: name === metric }, name));
  const select = element('select', { name: 'metric', 'aria-label': 'Metric', onchange: () => form.requestSubmit() }, ...options);
  const input = element('input', {
    name: 'query', value: query, 'aria-label': 'Query', spellcheck: 'false',
    placeholder: 'process.name:bash AND NOT user.id:0 — empty for every row',
  });
  const submit = (event) => {
    event.preventDefault();
    change({ metric: select.value, query: input.value });
  };
  const form = element('form', { class: 'search', onsubmit: submit }, select, input, element('button', {}, 'Search'));
  const found = element('div', { id: 'found' });
  main.replaceChildren(form, found);
  try {
    found.append(...results(await api.rows({ metric, query, ...range, limit: LIMIT }), leftOut));
  } catch (error) {
    found.append(note(error.message, 'error'));
    if (error.column !== undefined) {
      input.focus();
      input.setSelectionRange(error.column - 1, error.column);
    }
  }
}

function results({ total, rows }, leftOut) {
  if (total === 0) {
    return [note('No match in this time. The query has no mistake.')];
  }
  const shown = rows.length < total ? `${rows.length} newest of ${total} rows` : `${total} rows`;
  return [note(shown), rowTable(rows, leftOut)];
}

/** The time, then every field that a row has, but for those that are left out. */
function rowTable(rows, leftOut) {
  const hidden = new Set(['@timestamp', ...leftOut]);
  const fields = [...new Set(rows.flatMap(Object.keys))].filter((field) => !hidden.has(field) && !AROUND.test(field));
  const kind = (field) => (rows.some((row) => typeof row[field] === 'number') ? 'number' : 'text');
  const heads = [{ label: 'Time', kind: 'time' }, ...fields.map((field) => ({ label: field, kind: kind(field) }))];
  return table(heads, rows.map((row) => [time(Date.parse(row['@timestamp'])), ...fields.map((field) => text(row[field]))]));
}
