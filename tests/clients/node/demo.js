// The OpenAI client for JavaScript with a running demo, which has real models:
//
//     make demo &
//     .venv-clients/bin/node tests/clients/node/demo.js http://127.0.0.1:8080
//
// tests/tools/demo_check.py waits for the demo and checks more; this tests another client.

import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of France?" }];

for (const model of ["local", "cloud", "auto"]) {
  const asked = { model, messages, max_tokens: 16 };
  const { data, response } = await client.chat.completions.create(asked).withResponse();
  assert.ok(data.choices[0].message.content.trim());
  assert.ok(["local", "cloud"].includes(response.headers.get("x-router-target")));
  let said = "";
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
    said += chunk.choices[0]?.delta?.content ?? "";
  }
  assert.ok(said.trim());
  console.log(`${model}: ${response.headers.get("x-router-target")}: ${JSON.stringify(said)}`);
}

// Aborted in the middle: the next request is answered.
const long = { model: "local", messages, max_tokens: 400, stream: true };
const stream = await client.chat.completions.create(long);
for await (const chunk of stream) {
  if (chunk.choices[0]?.delta?.content) break; // aborts the request
}
const after = await client.chat.completions.create({ model: "local", messages, max_tokens: 4 });
assert.ok(after.choices[0].message.content.trim());
const listed = (await client.models.list()).data.map((one) => one.id);
assert.ok(["auto", "local", "cloud"].every((name) => listed.includes(name)));
