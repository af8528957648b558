// Writes what tests did as one JSON object a line; package cleanroom reads it.
import { inspect } from "node:util";

const shown = (error) => (error === undefined ? "" : inspect(error.cause ?? error, { colors: false }) + "\n");

export default async function* (source) {
  const names = [];
  for await (const { type, data } of source) {
    if (type === "test:start") names[data.nesting] = data.name;
    if (type === "test:stdout" || type === "test:stderr") yield JSON.stringify({ event: "output", output: data.message }) + "\n";
    if (type !== "test:pass" && type !== "test:fail") continue;
    const error = data.details?.error;
    const failed = type === "test:fail" && data.todo === undefined;
    // A suite is its tests, unless it failed apart from them.
    if (data.details?.type === "suite" && !(failed && error?.failureType !== "subtestsFailed")) continue;
    const skipped = data.skip !== undefined || data.todo !== undefined;
    const file = data.nesting === 0 && data.name === data.file; // a file without tests, or that cannot be run
    yield JSON.stringify({
      event: failed ? "fail" : skipped ? "skip" : "pass",
      name: file ? "" : [...names.slice(0, data.nesting), data.name].join(" > "),
      seconds: (data.details?.duration_ms ?? 0) / 1000,
      output: failed ? shown(error) : "",
    }) + "\n";
  }
  yield JSON.stringify({ event: "end" }) + "\n";
}
