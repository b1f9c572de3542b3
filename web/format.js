// Numbers and times as people read them.

const DURATIONS = [[1e9 * 86400, 'd'], [1e9 * 3600, 'h'], [1e9 * 60, 'min'], [1e9, 's'], [1e6, 'ms'], [1e3, 'µs'], [1, 'ns']];
const SIZES = [[2 ** 40, 'TiB'], [2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB'], [1, 'B']];
const COUNTS = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k'], [1, '']];

function scaled(value, scale) {
  const [size, unit] = scale.find(([size]) => Math.abs(value) >= size) ?? scale[scale.length - 1];
  return `${rounded(value / size)} ${unit}`.trim();
}

/** Three digits that count. */
function rounded(value) {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return String(Number(value.toFixed(digits)));
}

const UNITS = {
  count: (value) => scaled(value, COUNTS),
  nanoseconds: (value) => scaled(value, DURATIONS),
  bytes: (value) => scaled(value, SIZES),
  per_second: (value) => `${scaled(value, COUNTS)}/s`,
  bytes_per_second: (value) => `${scaled(value, SIZES)}/s`,
  at_a_time: (value) => scaled(value, COUNTS),
  time: (value) => time(value),
  fraction: (value) => `${rounded(value * 100)} %`,
};

/** A number in its unit; `–` where there is none. */
export function number(value, unit) {
  return value === null || value === undefined ? '–' : (UNITS[unit] ?? UNITS.count)(value);
}

/** A time in milliseconds since the Unix epoch, in the browser's zone. */
export function time(milliseconds) {
  const at = new Date(milliseconds);
  return Number.isNaN(at.getTime()) ? '' : at.toLocaleString('sv-SE');
}

/** A value of a row or a table, as text. */
export function text(value) {
  if (value === null || value === undefined) return '';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
