const { Pool } = require('pg');

const pool = new Pool({
  host: '10.1.0.1',  // Use appropriate gateway IP for your VM
  port: 5432,
  database: 'sessiondb',
  user: 'sessionuser',
  password: 'sessionpass123'
});

// Insert a new session
async function createSession() {
  const result = await pool.query(
    'INSERT INTO session (messages, inbox_status, sbx_config) VALUES ($1, $2, $3) RETURNING id',
    [
      { msg: 'Hello' },
      'pending',
      { config: 'value' }
    ]
  );
  console.log('Created session:', result.rows[0].id);
}

// Query sessions
async function getSessions() {
  const result = await pool.query(
    'SELECT * FROM session WHERE inbox_status = $1',
    ['pending']
  );
  console.log('Sessions:', result.rows);
}

createSession().then(getSessions).finally(() => pool.end());
