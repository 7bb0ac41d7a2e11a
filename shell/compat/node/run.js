// Runs checks one after another and prints one JSON object for each. One that fails is told of in the exit code too. In
// CHRONIK_COMPAT_ONLY may be a part of the claims that are checked.

async function run(checks) {
  const only = process.env.CHRONIK_COMPAT_ONLY ?? "";
  for (const [check, body] of Object.entries(checks)) {
    if (!check.includes(only)) continue;
    const begun = process.hrtime.bigint();
    let why = "";
    try {
      await body();
    } catch (error) {
      why = String(error.stack ?? error).slice(0, 600);
      process.exitCode = 1;
    }
    const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
    console.log(JSON.stringify({ check, seconds, why }));
  }
}

module.exports = { run };
