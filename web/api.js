// The questions that the page asks its server.

/** An answer that is an error; `kind` tells a mistake in the query from an output that is away. */
export class ApiError extends Error {
  constructor(kind, message, column) {
    super(message);
    this.kind = kind;
    this.column = column;
  }
}

async function ask(path, question) {
  const options = question === undefined
    ? {}
    : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(question) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ApiError('unavailable', 'The agent does not answer: is it running? kumon status tells.');
  }
  if (response.status === 401) {
    location.reload();
  }
  if (response.ok) {
    return response.json();
  }
  const text = await response.text();
  let error = {};
  try {
    error = JSON.parse(text);
  } catch {
    // The server's own refusals are plain text.
  }
  throw new ApiError(error.error ?? 'unavailable', error.text ?? text, error.column);
}

/** All dashboards, with their panels' places and titles. */
export const dashboards = () => ask('/api/dashboards');
/** The metrics' names, and as `leftOut` the fields that tables of their rows leave out. */
export const metrics = () => ask('/api/metrics');
/** What one panel shows: question = { dashboard, panel, since, until, filters }. */
export const panel = (question) => ask('/api/panel', question);
/** The values of a control's field: question = { dashboard, field, since, until }. */
export const values = (question) => ask('/api/values', question);
/** Raw rows: question = { metric, query, since, until, limit }. */
export const rows = (question) => ask('/api/rows', question);
