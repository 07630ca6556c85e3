// The reference page: our own document, no other host, nothing kept.
window.SwaggerUIBundle({
  url: '/api/v1/openapi.json',
  dom_id: '#docs',
  validatorUrl: null,
  deepLinking: true,
  docExpansion: 'none',
  persistAuthorization: false,
  tagsSorter: undefined,
});
