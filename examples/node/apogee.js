import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const bin = process.env.APOGEE_BIN ?? 'apogee';

/** Starts a broker. RocketMQ clients connect to the name server at `namesrv`, host:port. */
export async function startApogee() {
  const child = spawn(bin, ['start', '--in-memory', '--json', '--log-level', 'warn'], { stdio: ['ignore', 'pipe', 'inherit'] });
  process.once('exit', () => child.kill());
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const line = await new Promise((resolve, reject) => {
    child.once('error', (cause) => reject(new Error(`cannot run ${bin}: put apogee on the PATH, or name it with APOGEE_BIN`, { cause })));
    child.once('exit', (code) => reject(new Error(`${bin} ended with status ${code}; what it said stands above`)));
    createInterface({ input: child.stdout }).once('line', resolve); // the only one, once it is ready
  });
  const { namesrv } = JSON.parse(line);
  return {
    namesrv,
    /** Runs a command against this broker and returns the JSON values that it prints. */
    async apogee(...args) {
      const { stdout } = await promisify(execFile)(bin, [...args, '--namesrv', namesrv, '--json'], { timeout: 30_000 });
      return stdout.trimEnd().split('\n').map((text) => JSON.parse(text));
    },
    async stop() {
      child.kill();
      await exited;
    },
  };
}
