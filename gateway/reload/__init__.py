"""Hot reload: a policy that changed is judged in a child, kept, and switched to in all workers; or the old one goes on."""
