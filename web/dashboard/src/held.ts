// Whether this page holds something that would be lost with it: text that is not saved, or a secret that is shown this once.
import { useSyncExternalStore } from 'react';

let holders = 0;
const watchers = new Set<() => void>();

function count(by: 1 | -1): void {
  holders += by;
  for (const tell of watchers) tell();
}

/** Holds the page until what it answers is called. */
export function hold(): () => void {
  count(1);
  return () => {
    count(-1);
  };
}

export const isHeld = (): boolean => holders > 0;

function watch(tell: () => void): () => void {
  watchers.add(tell);
  return () => {
    watchers.delete(tell);
  };
}

export function useHeld(): boolean {
  return useSyncExternalStore(watch, isHeld);
}
