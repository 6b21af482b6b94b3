// SPDX-License-Identifier: MIT
// What the schemas of Kubernetes' interface have against resources: a JSON list on stdin, a line each fault.
// usage: kubernetes.mjs MODULES
import {pathToFileURL} from "url";
import path from "path";

let text = "";
for await (const piece of process.stdin)
	text += piece;
for (const resource of JSON.parse(text)) {
	const file = path.join(process.argv[2], "kubernetes-models", resource.apiVersion, resource.kind + ".js");
	const model = (await import(pathToFileURL(file)))[resource.kind];
	try {
		new model(resource).validate();
	} catch (error) {
		console.log(resource.kind + error.message);
	}
}
