curl --include --no-buffer --silent --http1.1 --max-time 3 \
  -H "Connection: Upgrade" -H "Upgrade: websocket" -H "Sec-WebSocket-Version: 13" \
  -H "Sec-WebSocket-Key: $(openssl rand -base64 16)" \
  -H "X-Api-Key: $API_KEY" https://feed.example.com/events
