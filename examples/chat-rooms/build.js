// Bundles the page with React, socket.io's client and PeerJS from node_modules: nothing comes from a CDN.

import { build } from 'esbuild';

await build({
  entryPoints: ['page/app.jsx'],
  outfile: 'dist/app.js',
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"' },
  logLevel: 'warning',
});
