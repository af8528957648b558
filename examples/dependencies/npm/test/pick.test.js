const test = require("node:test");
const assert = require("node:assert");
const pick = require("../pick.js");

test("the newest in the range", () => assert.equal(pick(["1.2.0", "1.10.0", "2.0.0"], "^1.0.0"), "1.10.0"));
test("none in the range", () => assert.equal(pick(["1.2.0"], ">=2"), "none"));
