// Arguments: the name that stands for all agents, their port, and the patience in ms. Asks each until it is ready; ends with 1 when one is not.
import { lookup } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const [name, port, patience] = process.argv.slice(1);
const deadline = Date.now() + Number(patience);

async function agents() {
  for (;;) {
    try {
      return await lookup(name, { all: true });
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(1000);
    }
  }
}

async function ready({ address, family }) {
  const url = `http://${family === 6 ? `[${address}]` : address}:${port}/readyz`;
  for (;;) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(5000) }).then(
      async (response) => ({ ok: response.ok, text: `${response.status} ${(await response.text()).trim()}` }),
      (error) => ({ ok: false, text: String(error.cause?.message ?? error.message) }),
    );
    if (answer.ok || Date.now() > deadline) {
      console.log(`${url}: ${answer.text}`);
      return answer.ok;
    }
    await sleep(1000);
  }
}

const answers = await Promise.all((await agents()).map(ready));
const count = answers.filter(Boolean).length;
console.log(`${count} of ${answers.length} agents are ready`);
process.exitCode = count === answers.length ? 0 : 1;
