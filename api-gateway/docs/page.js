// The contract as the gateway serves it in, the page out. Everything comes from the gateway: no validator, no badge.
SwaggerUIBundle({
	url: "openapi.json",
	dom_id: "#page",
	deepLinking: true,
	validatorUrl: null,
});
