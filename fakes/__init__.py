"""What the coordinator talks to: pure cores, their endpoints, and thin FastAPI skins over them."""
