"""Answer: prompt, LLM back ends, reasoning, citations, abstention, conversations, service, UI."""
