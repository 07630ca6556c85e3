// Light or dark: as the system says, until somebody chooses.
export type Theme = 'light' | 'dark';

const system = window.matchMedia('(prefers-color-scheme: dark)');

export function theme(): Theme {
  const chosen = window.localStorage.getItem('theme');
  if (chosen === 'light' || chosen === 'dark') return chosen;
  return system.matches ? 'dark' : 'light';
}

function show(): void {
  document.documentElement.dataset.theme = theme();
}

export function startTheme(): void {
  show();
  system.addEventListener('change', show);
}

export function choose(next: Theme): void {
  window.localStorage.setItem('theme', next);
  show();
}
