"""OpenAI's API: any OpenAI client works with its base URL and key changed; Azure's paths too."""
