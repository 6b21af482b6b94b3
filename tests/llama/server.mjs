// SPDX-License-Identifier: MIT
// llama.cpp behind HTTP, as its own server streams it: node-llama-cpp on the CPU. Prints the port that it listens on.
// usage: server.mjs MODULES MODEL
import {createServer} from "http";
import {pathToFileURL} from "url";
import path from "path";

const [modules, file] = process.argv.slice(2);
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(path.join(modules, "node-llama-cpp/dist/index.js")));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, skipDownload: true});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({contextSize: 1024, batchSize: 256, threads: 1});
const sequence = context.getSequence();

const server = createServer(async (request, reply) => {
	let text = "";
	for await (const piece of request)
		text += piece;
	if (request.method !== "POST" || request.url !== "/v1/chat/completions") {
		reply.writeHead(404, {"Content-Type": "text/plain"}).end("no such page\n");
		return;
	}
	const {messages, max_tokens, stream} = JSON.parse(text);
	const prompt = model.tokenize(messages.map((message) => message.content).join("\n"));
	const said = (delta, finish) => ({id: "one", object: "chat.completion.chunk", created: 1, model: "noise",
		choices: [{index: 0, delta, finish_reason: finish}]});
	const words = [];
	let left = max_tokens;
	await sequence.clearHistory();
	if (stream) {
		reply.writeHead(200, {"Content-Type": "text/event-stream"});
		reply.write(`data: ${JSON.stringify(said({role: "assistant", content: null}, null))}\n\n`);
	}
	for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
		words.push(`<${token}>`);
		if (stream)
			reply.write(`data: ${JSON.stringify(said({content: `<${token}>`}, null))}\n\n`);
		if (--left === 0)
			break;
		await new Promise((go) => setTimeout(go, 15)); // as a larger model would take
	}
	if (stream)
		reply.end(`data: ${JSON.stringify(said({}, "length"))}\n\ndata: [DONE]\n\n`);
	else
		reply.writeHead(200, {"Content-Type": "application/json"})
			.end(JSON.stringify({choices: [{message: words.join("")}]}));
});
server.listen(0, "127.0.0.1", () => console.log("port", server.address().port));
