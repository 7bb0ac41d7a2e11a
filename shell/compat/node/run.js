// Runs checks one after another and prints one JSON object for each. One that fails is told of in the exit code too.

async function run(checks) {
  for (const [check, body] of Object.entries(checks)) {
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
