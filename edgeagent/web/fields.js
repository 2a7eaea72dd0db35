// @ts-check
/**
 * A command's arguments as the fields of a form, from their JSON Schema (an object, as pydantic writes it). No browser object is touched.
 *
 * @typedef {object} Field
 * @property {string} name
 * @property {string} title
 * @property {string} hint
 * @property {'slider' | 'number' | 'switch' | 'select' | 'text'} kind
 * @property {boolean} whole whole numbers only
 * @property {boolean} required
 * @property {number | null} minimum
 * @property {number | null} maximum
 * @property {number | null} step
 * @property {{label: string, value: unknown}[]} options of a select
 * @property {string | number | boolean | null} value to begin with; null for none
 * @property {number | null} longest text
 */

/** @param {string} name @returns {string} `max_speed` as `Max speed` */
export const wordsOf = (name) => (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll('_', ' ');

/** @param {any} schema @param {Record<string, any>} defs @returns {any} the schema that is meant */
function resolve(schema, defs) {
  if (typeof schema?.$ref === 'string') {
    const { $ref, ...rest } = schema;
    return resolve({ ...(defs[$ref.split('/').at(-1) ?? ''] ?? {}), ...rest }, defs);
  }
  const choices = schema?.anyOf ?? schema?.oneOf ?? schema?.allOf;
  if (!choices) return schema ?? {};
  const real = choices.map((/** @type {any} */ each) => resolve(each, defs)).filter((/** @type {any} */ each) => each.type !== 'null');
  const { anyOf, oneOf, allOf, ...rest } = schema;
  return { ...(real.length ? real[0] : {}), ...rest, ...(real.length < choices.length ? { optional: true } : {}) };
}

/** @param {Record<string, any>} schema @returns {Field[]} */
export function fieldsOf(schema) {
  const defs = schema?.$defs ?? {};
  const required = new Set(schema?.required ?? []);
  return Object.entries(schema?.properties ?? {}).map(([name, raw]) => {
    const each = resolve(raw, defs);
    const whole = each.type === 'integer';
    const numeric = whole || each.type === 'number';
    const minimum = each.minimum ?? each.exclusiveMinimum ?? null;
    const maximum = each.maximum ?? each.exclusiveMaximum ?? null;
    const bounded = numeric && minimum !== null && maximum !== null && maximum > minimum;
    const listed = 'const' in each ? [each.const] : each.enum;
    const options = (listed ?? []).map((/** @type {unknown} */ value) => ({ label: wordsOf(String(value)), value }));
    const kind = options.length ? 'select' : each.type === 'boolean' ? 'switch' : bounded ? 'slider' : numeric ? 'number' : 'text';
    const step = !numeric ? null : (each.multipleOf ?? (whole ? 1 : bounded ? stepOf(maximum - minimum) : null));
    const first = options.length ? options[0].value : kind === 'switch' ? false : bounded ? Math.min(maximum, Math.max(minimum, 0)) : null;
    const title = each.title && each.title !== wordsOf(name) ? each.title : wordsOf(name);
    return {
      name,
      title,
      hint: each.description ?? '',
      kind,
      whole,
      required: required.has(name),
      minimum,
      maximum,
      step,
      options,
      value: each.default ?? (required.has(name) || kind === 'slider' || kind === 'switch' ? first : null),
      longest: each.maxLength ?? null,
    };
  });
}

/** A hundred steps or somewhat more, of a round size. @param {number} range */
function stepOf(range) {
  return 10 ** Math.floor(Math.log10(range / 100));
}

/**
 * What was filled in, as arguments. What is left empty is left out.
 * @param {Field[]} fields
 * @param {Record<string, string | boolean>} filled text as typed or the index of an option; whether a switch is on
 * @returns {{args: Record<string, unknown>} | {problem: string, field: string}}
 */
export function argsOf(fields, filled) {
  /** @type {Record<string, unknown>} */
  const args = {};
  for (const field of fields) {
    const { name, title, kind, minimum, maximum } = field;
    const given = filled[name];
    if (kind === 'switch') {
      args[name] = given === true;
      continue;
    }
    const text = String(given ?? '').trim();
    if (text === '') {
      if (field.required && kind !== 'text') return { field: name, problem: `${title}: fill this in.` };
      if (field.required) args[name] = '';
    } else if (kind === 'select') args[name] = field.options[Number(text)]?.value;
    else if (kind === 'text') args[name] = text;
    else {
      const number = Number(text);
      if (!Number.isFinite(number)) return { field: name, problem: `${title}: this is no number.` };
      if (field.whole && !Number.isInteger(number)) return { field: name, problem: `${title}: whole numbers only.` };
      if (minimum !== null && number < minimum) return { field: name, problem: `${title}: at least ${minimum}.` };
      if (maximum !== null && number > maximum) return { field: name, problem: `${title}: at most ${maximum}.` };
      args[name] = number;
    }
  }
  return { args };
}

/**
 * The reading that a command sets: a command `switch(on)` beside a reading `on` is a toggle, not a form.
 * @param {import('./wire.js').DeviceInfo} device
 * @param {import('./wire.js').CommandInfo} command
 * @returns {{field: Field, reading: import('./wire.js').ReadingInfo} | null}
 */
export function toggleOf(device, command) {
  const fields = fieldsOf(command.arguments);
  if (fields.length !== 1 || fields[0].kind !== 'switch') return null;
  const reading = device.readings.find((each) => each.name === fields[0].name && each.kind === 'flag');
  return reading ? { field: fields[0], reading } : null;
}

/**
 * @param {import('./wire.js').ReadingInfo} reading
 * @param {number | boolean | string | null} value
 * @returns {{text: string, unit: string, warn: boolean}}
 */
export function readingText(reading, value) {
  if (value === null) return { text: '–', unit: '', warn: false };
  if (typeof value === 'boolean') return { text: value ? 'Yes' : 'No', unit: '', warn: false };
  if (typeof value === 'string') return { text: value, unit: '', warn: false };
  const low = typeof reading.warn_below === 'number' && value < reading.warn_below;
  const high = typeof reading.warn_above === 'number' && value > reading.warn_above;
  return { text: value.toFixed(Math.max(0, Math.min(6, reading.digits))).replace('-', '−'), unit: reading.unit, warn: low || high };
}

/**
 * A line through the points of the last `span` ms, in a box of `width` × `height`; what is told seldom is drawn as steps.
 * @param {readonly {at: number, value: number | boolean | string}[]} points
 * @param {number} now @param {number} span ms @param {number} width @param {number} height
 * @returns {string} a path's `d`, '' where there is nothing to draw
 */
export function sparkline(points, now, span, width, height) {
  const known = points.flatMap(({ at, value }) => (typeof value === 'string' ? [] : [{ at: Math.max(at, now - span), value: Number(value) }]));
  if (known.length < 2) return '';
  const values = known.map((each) => each.value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (/** @type {number} */ at) => (width * (1 - (now - at) / span)).toFixed(1);
  const y = (/** @type {number} */ value) => (high > low ? height - ((value - low) / (high - low)) * height : height / 2).toFixed(1);
  let d = `M${x(known[0].at)} ${y(known[0].value)}`;
  for (let i = 1; i < known.length; i++) {
    const late = known[i].at - known[i - 1].at > span / 20;
    d += late ? `H${x(known[i].at)}V${y(known[i].value)}` : `L${x(known[i].at)} ${y(known[i].value)}`;
  }
  return `${d}H${width}`;
}
