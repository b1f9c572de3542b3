// Making elements. Text goes in as text nodes only: rows hold what any process calls itself.

/** An element with attributes (`on…` are listeners) and children, which are elements or texts. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) {
      made.addEventListener(key.slice(2), value);
    } else if (value !== undefined && value !== false) {
      made.setAttribute(key, value === true ? '' : value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A table; cells are texts or elements, and a column's `kind` is text, number or time. */
export function table(columns, rows) {
  const heads = columns.map((column) => element('th', { class: column.kind }, column.label));
  const cells = (row) => row.map((cell, at) => element('td', { class: columns[at].kind }, cell));
  return element('div', { class: 'scroll' },
    element('table', {},
      element('thead', {}, element('tr', {}, ...heads)),
      element('tbody', {}, ...rows.map((row) => element('tr', {}, ...cells(row))))));
}

/** A message in the place of what it is about. */
export const note = (text, kind = 'quiet') => element('p', { class: kind, role: kind === 'error' ? 'alert' : 'status' }, text);
