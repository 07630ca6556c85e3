// The reference page: our own document, no other host, nothing kept. Calls are made with the member's session, unless a key is pasted.
const WARNING =
  'A key that is pasted here is used by this browser, until the page is reloaded or closed. Use a test key with few scopes, ' +
  'never one that a backend depends on. Members need none: calls from this page use their session.';

/** The organization that this page names; nothing where nobody is signed in. */
let shown = '';

/** A call with the session goes to the organization that the page names, or nowhere: another tab may have gone to another. */
function meant(request) {
  const given = (name) => Object.keys(request.headers).some((it) => it.toLowerCase() === name);
  if (shown && !given('authorization') && !given('flowyte-organization')) request.headers['Flowyte-Organization'] = shown;
  return request;
}

async function reference() {
  const spec = await (await fetch('/api/v1/openapi.json')).json();
  const schemes = spec.components.securitySchemes;
  schemes.apiKey.description += `\n\n**${WARNING}**`;
  // A browser sends the cookie by itself; there is nothing to type in.
  delete schemes.session;
  window.SwaggerUIBundle({
    spec,
    dom_id: '#docs',
    validatorUrl: null,
    deepLinking: true,
    docExpansion: 'none',
    persistAuthorization: false,
    requestInterceptor: meant,
  });
}

async function who() {
  const answer = await fetch('/api/v1/auth/session');
  const place = document.getElementById('who');
  const say = (...parts) => {
    const line = document.createElement('p');
    line.append(...parts);
    place.append(line);
  };
  const link = document.createElement('a');
  if (answer.ok) {
    const { user, organization, role } = (await answer.json()).data;
    shown = organization.id;
    say(`You are signed in as ${user.name}, ${role} of ${organization.name}. “Try it out” makes real calls, with your session.`);
  } else {
    link.href = '/signin';
    link.textContent = 'Sign in';
    say(link, ', and “Try it out” makes real calls with your session.');
  }
  say(`“Authorize” takes a key instead. ${WARNING}`);
}

reference();
who();
