import { gzipSync } from 'node:zlib';
import { defineConfig } from 'vite';

// Of everything together; the loader is all there is.
const MOST = 5 * 1024;

export default defineConfig({
  build: {
    target: 'es2022',
    rollupOptions: { input: 'src/loader.ts', output: { format: 'iife', entryFileNames: 'loader.js' } },
  },
  plugins: [
    {
      name: 'compressed',
      generateBundle(_, bundle) {
        for (const [name, file] of Object.entries(bundle)) {
          const source = gzipSync(file.code, { level: 9 });
          if (source.length > MOST) this.error(`${name} has ${source.length} bytes compressed; at most ${MOST} are allowed`);
          this.emitFile({ type: 'asset', fileName: `${name}.gz`, source });
          delete bundle[name];
        }
      },
    },
  ],
});
