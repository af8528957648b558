// Renders with minijinja-js and measures itself: a template, then turns of a length.
const { Environment } = require("minijinja-js");
const lines = require("readline").createInterface({ input: process.stdin });
let env, name, vars;
lines.on("line", (line) => {
  const ask = JSON.parse(line);
  if (ask.source !== undefined) {
    env = new Environment();
    ({ name, vars } = ask);
    env.addTemplate(name, ask.source);
    console.log(JSON.stringify({ Output: env.renderTemplate(name, vars) }));
    return;
  }
  const began = process.hrtime.bigint();
  let n = 0, took;
  do {
    for (let i = 0; i < 8; i++) env.renderTemplate(name, vars);
    n += 8;
    took = Number(process.hrtime.bigint() - began);
  } while (took < ask.budget * 1e9);
  console.log(JSON.stringify({ Nanoseconds: took / n }));
});
