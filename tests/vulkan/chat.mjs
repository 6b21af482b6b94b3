// SPDX-License-Identifier: MIT
// node-llama-cpp as its users call it: a prompt, then tokens, on the GPU.
// usage: chat.mjs MODULES MODEL PROMPT-TOKENS TOKENS [MORE-PROMPT TOKENS ...]
// A prompt n20 begins a new conversation. Prints the tokens, then the milliseconds of each on a line of its own.
import {pathToFileURL} from "url";
import path from "path";

const [modules, file, ...turns] = process.argv.slice(2);
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(path.join(modules, "node-llama-cpp/dist/index.js")));
const llama = await getLlama({gpu: "vulkan", build: "never", logLevel: LlamaLogLevel.error, skipDownload: true});
if (llama.gpu !== "vulkan")
	throw new Error("no Vulkan: " + llama.gpu);
const model = await llama.loadModel({modelPath: file, gpuLayers: "max"});
const context = await model.createContext({contextSize: 2048, batchSize: 512});
const sequence = context.getSequence();
const tokens = [], times = [];
for (let i = 0; i < turns.length; i += 2) {
	if (turns[i].startsWith("n"))
		await sequence.clearHistory();
	const prompt = Array.from({length: Number(turns[i].replace("n", ""))}, (_, k) => 3 + ((k * 7 + i) % 256));
	let at = performance.now();
	for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
		tokens.push(token);
		times.push(performance.now() - at);
		const counts = turns.slice(1, i + 2).filter((_, k) => k % 2 === 0);
		if (tokens.length >= counts.reduce((a, b) => a + Number(b), 0))
			break;
		at = performance.now();
	}
}
console.log("tokens", tokens.join(" "));
console.log("ms", times.map((ms) => ms.toFixed(3)).join(" "));
await context.dispose();
await model.dispose();
await llama.dispose();
process.exit(0);
