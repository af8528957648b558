// Picks the newest of some versions that a range allows.
const semver = require("semver");

module.exports = (versions, range) => semver.maxSatisfying(versions, range) ?? "none";
