// What the server takes: bounds, defaults and choices, read from the JSON schema that it gives of a request. Where it says
// nothing there is no bound here, and the server itself refuses.

import { count } from "../shared/words.js";

const DEEPEST = 8;

export class Limits {
  /** `request`: the schema of a request's body. `parameters`: the one of what a model reads of it, which is narrower. */
  constructor(request = null, parameters = null) {
    this.request = request;
    this.parameters = parameters;
  }

  /** The bounds of a field or, with more names, of a field within it: all that is not known is undefined. */
  bounds(...path) {
    const { type, minimum, exclusiveMinimum, maximum, exclusiveMaximum } = this.field(path);
    return { whole: type === "integer", least: minimum, above: exclusiveMinimum, most: maximum, below: exclusiveMaximum };
  }

  /** The words that a field takes, or null. */
  choices(...path) {
    return this.field(path).enum ?? null;
  }

  longest(...path) {
    return this.field(path).maxLength;
  }

  standard(...path) {
    return this.field(path).default;
  }

  /** The schema of a field, without references and alternatives; empty when there is none. */
  field(path) {
    const narrow = find(this.parameters, path), wide = find(this.request, path);
    return { ...wide, ...narrow };
  }
}

function find(root, path) {
  let schema = plain(root, root);
  for (const name of path) schema = plain(schema.properties?.[name], root);
  return schema;
}

/** A schema with `$ref` followed, and of alternatives the one that is not null. What stands beside them counts, too. */
function plain(schema, root, depth = 0) {
  if (!schema || typeof schema !== "object" || depth > DEEPEST) return {};
  const { $ref, anyOf, oneOf, allOf, ...beside } = schema;
  const within = (each) => plain(each, root, depth + 1);
  const parts = [...(allOf ?? [])].map(within);
  if ($ref) parts.push(within(pointed(root, $ref)));
  const either = (anyOf ?? oneOf ?? []).map(within).find((each) => each.type !== "null");
  if (either) parts.push(either);
  return Object.assign({}, ...parts, beside);
}

/** What `#/$defs/Name` stands for. */
function pointed(root, reference) {
  const names = reference.replace(/^#\/?/, "").split("/").filter(Boolean);
  return names.reduce((at, name) => at?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], root);
}

/** Whether a number is within bounds. */
export function fits(value, { whole, least, above, most, below }) {
  return Number.isFinite(value) && (!whole || Number.isInteger(value))
    && !(value < least) && !(value <= above) && !(value > most) && !(value >= below);
}

/** What to give instead of a number that does not fit, as the beginning of a sentence. */
export function wanted({ whole, least, above, most, below }, unit = "") {
  const what = `Give a ${whole ? "whole " : ""}number${unit}`;
  if (least !== undefined && most !== undefined) return `${what} from ${count(least)} to ${count(most)}`;
  const ends = [[above, "more than"], [least, "at least"], [below, "less than"], [most, "up to"]];
  const range = ends.filter(([end]) => end !== undefined).map(([end, words]) => `${words} ${count(end)}`).join(" and ");
  return range ? `${what}, ${range}` : what;
}
