// A coordinator as many are published: the openai SDK's polling helpers, tools called in place, no dedup.
import http from "node:http";
import OpenAI from "openai";

const seconds = (name, otherwise) => 1000 * Number(process.env[name] ?? otherwise);
const client = new OpenAI({ timeout: seconds("CLIENT_TIMEOUT", 30) });
const turns = new Map();

async function callTool(call) {
  const answer = await fetch(`${process.env.TOOL_GATEWAY_URL}/tools/${call.function.name}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ arguments: JSON.parse(call.function.arguments) }),
    signal: AbortSignal.timeout(seconds("TOOL_TIMEOUT", 30)),
  });
  if (!answer.ok) throw new Error(`${call.function.name}: HTTP ${answer.status}`);
  return { tool_call_id: call.id, output: (await answer.json()).output };
}

async function conduct(turn) {
  const { threads } = client.beta;
  try {
    const thread_id = turn.thread_id ?? (await threads.create()).id;
    await threads.messages.create(thread_id, { role: "user", content: turn.message });
    let run = await threads.runs.createAndPoll(thread_id, { assistant_id: process.env.ASSISTANT_ID });
    while (run.status === "requires_action") {
      const tool_outputs = await Promise.all(run.required_action.submit_tool_outputs.tool_calls.map(callTool));
      run = await threads.runs.submitToolOutputsAndPoll(run.id, { thread_id, tool_outputs });
    }
    turns.set(turn.turn_id, { status: run.status === "completed" ? "done" : "failed", run_id: run.id });
  } catch (error) {
    turns.set(turn.turn_id, { status: "failed", detail: String(error) });
  }
}

const server = http.createServer(async (request, response) => {
  const answer = (status, data) => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(data));
  };
  if (request.url === "/healthz") return answer(200, { async_tools: false });
  if (request.method === "GET") {
    const turn = turns.get(request.url.replace("/turns/", ""));
    return answer(turn ? 200 : 404, turn ?? { error: "unknown turn" });
  }
  let body = "";
  for await (const chunk of request) body += chunk;
  const turn = JSON.parse(body);
  if (!turns.has(turn.turn_id)) {
    turns.set(turn.turn_id, { status: "running" });
    conduct(turn);
  }
  answer(202, { accepted: true });
});
server.listen(Number(process.env.PORT), "127.0.0.1");
