import { gzipSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vite';
import react from '@vitejs/plugin-react';

// The server sends these as they are to whoever takes gzip, so nothing is compressed while somebody waits.
const compressed: Plugin = {
  name: 'compressed',
  generateBundle(_, bundle) {
    for (const [name, file] of Object.entries(bundle)) {
      const source = file.type === 'chunk' ? file.code : file.source;
      this.emitFile({ type: 'asset', fileName: `${name}.gz`, source: gzipSync(source, { level: 9 }) });
    }
  },
};

export default defineConfig({
  plugins: [react(), compressed],
  build: { target: 'es2023', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { proxy: { '/api': 'http://localhost:8080', '/docs': 'http://localhost:8080' } },
  test: { environment: 'jsdom', include: ['src/**/*.test.{ts,tsx}'] },
} as Parameters<typeof defineConfig>[0]);
