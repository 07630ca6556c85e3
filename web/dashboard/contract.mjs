// Writes the types of the client from the documents of the API, put beside one another as the server puts them (crates/contract):
// npm run contract, or node contract.mjs OUT FILE…
//
// `paths` and `x-scopes` are shared by member, `components` by section and member, `tags` follow one another, `info` is that of the last.
// Whatever else stands in two documents must be the same, and a shared member may stand in one alone.
import { readFileSync, writeFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { pathToFileURL } from 'node:url';
import openapiTS, { astToString, COMMENT_HEADER } from 'openapi-typescript';
import { parse } from 'yaml';

const SHARED = { paths: 1, components: 2, 'x-scopes': 1 };

/** Several documents as one. Throws where two of them say something about the same thing. */
export function merge(documents) {
  const whole = {};
  for (const document of documents) {
    for (const [name, value] of Object.entries(document)) {
      if (name in SHARED) put((whole[name] ??= {}), value, SHARED[name], `#/${name}`);
      else if (name === 'tags') whole.tags = [...(whole.tags ?? []), ...value];
      else if (name === 'info' || !(name in whole)) whole[name] = value;
      else if (!isDeepStrictEqual(whole[name], value)) throw new Error(`#/${name}: two documents that belong together say different things`);
    }
  }
  return whole;
}

function put(into, more, depth, place) {
  for (const [name, value] of Object.entries(more)) {
    const here = `${place}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
    if (!(name in into)) into[name] = value;
    else if (depth > 1) put(into[name], value, depth - 1, here);
    else throw new Error(`${here}: stands in two documents that belong together`);
  }
}

// Imported by its test, which writes nothing.
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [out, ...files] = process.argv.slice(2);
  if (!out || files.length === 0) throw new Error('usage: node contract.mjs OUT FILE…');
  // Read as the server reads them: JSON values alone, and a member once.
  const documents = files.map((file) => parse(readFileSync(file, 'utf8'), { schema: 'core', uniqueKeys: true }));
  writeFileSync(out, COMMENT_HEADER + astToString(await openapiTS(merge(documents))));
}
