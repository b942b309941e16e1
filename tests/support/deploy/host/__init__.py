"""Programs that check, build and run the image, Compose, systemd units and fronts."""
