// For the dashboard and the widget: what the compiler lets through. Promises that nobody waits for, hooks out of order, and effects
// that return something which is no clean-up.
import hooks from 'eslint-plugin-react-hooks';
import { defineConfig } from 'eslint/config';
import { resolve } from 'node:path';
import typescript from 'typescript-eslint';

const EFFECT = 'CallExpression[callee.name=/^use\\w*Effect$/] > :function:first-child';

const effects = [
  { selector: `${EFFECT}[expression=true]`, message: 'React calls what an effect returns. Give its body braces, and return nothing or a clean-up function.' },
  { selector: `${EFFECT} > BlockStatement > ReturnStatement[argument.type=/^(Call|Chain|Await)Expression$/]`, message: 'An effect returns nothing or a clean-up function, not what a call answers.' },
];

export default defineConfig(
  { ignores: ['**/dist/', '**/node_modules/', '**/contract.d.ts', '**/*.config.*', '**/contract.mjs'] },
  typescript.configs.strictTypeChecked,
  hooks.configs.flat['recommended-latest'],
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: resolve(import.meta.dirname, '..') } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      // The type says `void` of what newer browsers answer with a promise, and React takes what an effect returns for its clean-up.
      'no-restricted-syntax': ['error', ...effects],
      // `onClick={() => setOpen(true)}` is fine: nobody uses what a handler answers.
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreVoidReturningFunctions: true }],
      // The runner waits for them.
      '@typescript-eslint/no-floating-promises': ['error', { allowForKnownSafeCalls: [{ from: 'package', package: 'node:test', name: ['describe', 'it'] }] }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
    },
  },
  {
    // What a page reads is named in queries.ts, where it is bound to its organization.
    files: ['dashboard/src/pages/**'],
    rules: { 'no-restricted-syntax': ['error', ...effects, { selector: 'Property[key.name=queryFn]', message: 'Put the query into queries.ts, under mine().' }] },
  },
);
