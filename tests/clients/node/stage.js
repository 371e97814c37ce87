// Shared by the tests: requests, expected answers, and the calls of the upstreams. The tests run on
// the stage (../stage.py). The name of a test starts with its feature.

import assert from "node:assert/strict";
import { beforeEach } from "node:test";
import { z } from "zod";

export const EASY = "What is 2+2?";
export const HARD =
  "Find the eigenvalues of [[2,1,0],[1,3,1],[0,1,2]] and prove it to be positive definite.";
export const TEXT = "2 + 2 is 4, naïvely 🙂.";
export const LOCAL_MODEL = "llama3.1:8b";
export const TIERS = ["local", "cloud"];

export const Report = z.object({ city: z.string(), degrees: z.number(), winds: z.array(z.string()) });
export const REPORT = { city: "Zürich", degrees: 21.5, winds: ["Zürich"] };
export const CITIES = ["Zürich", "Paris"];

async function behind(method, path) {
  const response = await fetch(process.env.STAGE_URL + path, {
    method,
    signal: AbortSignal.timeout(10_000),
  });
  return response.json();
}

// The requests that the upstreams received, in order.
export const calls = () => behind("GET", "/calls");
export const tiers = async () => (await calls()).map((call) => call.tier);
// Wait until the proxy has closed a request.
export const released = (number = 0) => behind("GET", `/calls/${number}/closed`);

const forget = () => behind("DELETE", "/calls");

// Do the ten tasks with a client, with each local model in turn, and report the requests that
// reached the tiers: local+cloud of the easy tasks / local+cloud of the hard ones. `ask` does one
// task; the client takes its address from the environment.
export async function measure(test, ask) {
  const before = { ...process.env };
  test.diagnostic(`saved: ${await count(ask)}`);
  for (const [name, value] of Object.entries(before))
    if (name.startsWith("PHI3_")) process.env[name.slice("PHI3_".length)] = value;
  test.diagnostic(`saved_phi3: ${await count(ask)}`);
  Object.assign(process.env, before);
}

async function count(ask) {
  const counts = [];
  for (const tasks of await behind("GET", "/tasks")) {
    await forget();
    for (const [index, task] of tasks.entries()) {
      await ask(task);
      assert.ok((await calls()).length > index, `no tier received ${task}`);
    }
    const reached = await tiers();
    counts.push(TIERS.map((tier) => reached.filter((name) => name === tier).length).join("+"));
  }
  return counts.join(" / ");
}

beforeEach(forget);
