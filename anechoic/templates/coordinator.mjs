// A minimal coordinator: turns to runs, tools called in place. It passes a gate without faults, and no more:
// it remembers nothing after a restart, dispatches again whatever a poll shows again, and gives the tool gateway no key.
import http from "node:http";

const env = process.env;
const seconds = (name, otherwise) => 1000 * Number(env[name] ?? otherwise);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const turns = new Map();

async function send(url, body, timeout) {
  const answer = await fetch(url, {
    method: body ? "POST" : "GET",
    headers: { "content-type": "application/json", authorization: `Bearer ${env.OPENAI_API_KEY}` },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(timeout),
  });
  if (!answer.ok) throw new Error(`${url}: HTTP ${answer.status}`);
  return answer.json();
}
const api = (path, body) => send(env.ASSISTANTS_BASE_URL + path, body, seconds("CLIENT_TIMEOUT", 10));

async function callTool(call) {
  const url = `${env.TOOL_GATEWAY_URL}/tools/${call.function.name}`;
  const done = await send(url, { arguments: JSON.parse(call.function.arguments), tool_call_id: call.id }, seconds("TOOL_TIMEOUT", 5));
  return { tool_call_id: call.id, output: done.output };
}

async function conduct(turn) {
  const thread = (await api("/threads", {})).id;
  await api(`/threads/${thread}/messages`, { role: "user", content: turn.message });
  let run = await api(`/threads/${thread}/runs`, { assistant_id: env.ASSISTANT_ID });
  const path = `/threads/${thread}/runs/${run.id}`;
  while (["queued", "in_progress", "requires_action"].includes(run.status)) {
    if (run.status === "requires_action") {
      const tool_outputs = await Promise.all(run.required_action.submit_tool_outputs.tool_calls.map(callTool));
      await api(`${path}/submit_tool_outputs`, { tool_outputs });
    }
    await sleep(seconds("POLL_INTERVAL", 0.5));
    run = await api(path);
  }
  return run.status === "completed" ? "done" : "failed";
}

http.createServer(async (request, response) => {
  const answer = (status, data) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(data));
  if (request.url === "/healthz") return answer(200, { async_tools: false });
  if (request.method === "GET") return answer(turns.has(request.url.slice(7)) ? 200 : 404, turns.get(request.url.slice(7)) ?? {});
  let body = "";
  for await (const chunk of request) body += chunk;
  const turn = JSON.parse(body);
  const ended = (status, detail) => turns.set(turn.turn_id, { status, detail });
  ended("running");
  conduct(turn).then(ended, (error) => ended("failed", String(error)));
  answer(202, {});
}).listen(Number(env.PORT), "127.0.0.1");
