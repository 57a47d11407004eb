// What `bellwether policy build` hands to node: a source, a folder with WIT, a world, and the file to make.
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { argv, exit } from 'node:process';
import { componentize } from '@bytecodealliance/componentize-js';

const [source, wit, worldName, made] = argv.slice(1);
try {
  const disableFeatures = ['stdio', 'random', 'clocks', 'http', 'fetch-event'];
  const witPath = resolve(wit);
  const { component } = await componentize({ sourcePath: resolve(source), witPath, worldName, disableFeatures });
  await writeFile(made, component);
} catch (error) {
  console.error(error.message ?? error);
  exit(1);
}
